"""The app's own pieces: sidebar, page frame, charts, words. Everything that a page shows comes from an `Estimate`; nothing here computes one.

state (widget values ↔ run file ↔ link) → inputs (the sidebar) → frame (router, errors, theme) → charts and explain (what pages draw).
"""
