"""Quality of samples against the speed they come at: fronts, who wins where, how much faster."""
