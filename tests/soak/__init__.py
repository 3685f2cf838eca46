"""The slower command that many people at once are: sessions over the app's own protocol, errors and memory recorded."""
