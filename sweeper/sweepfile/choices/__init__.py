"""The parts of a sweep file that people choose, one module for each."""
