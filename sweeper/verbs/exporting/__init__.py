"""The verb that takes something out of a results folder: one model, or all runs."""
