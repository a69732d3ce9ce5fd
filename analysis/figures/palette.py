"""Colours of figures and page, known without a library that draws."""

PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#c2609a", "#332288", "#0f4c5c", "#a02c2c", "#6a51c8",
)  # fmt: skip
"""Any two differ by 15 or more in CIELAB (1976) also for a reader who lacks one kind of cone
(simulated after Machado et al. 2009)."""
DARK_PALETTE = (
    "#4ba8e0", "#f08a45", "#8fe3c4", "#d060a0", "#8a7be8", "#c8a482", "#e05050", "#ffffff",
)  # fmt: skip
"""What they become on the dark page of the report."""
