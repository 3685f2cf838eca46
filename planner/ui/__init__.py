"""The app's own pieces: sidebar, page frame, charts, words. Everything that a page shows comes from an `Estimate`; nothing here computes one.

state (widget values ↔ run file), address and link (what stands in the address bar) → changes and inputs (the sidebar) → frame (router, plan of this
run of the script, errors, theme) → charts, explain, method, accuracy (what pages draw); texts has the words.
"""
