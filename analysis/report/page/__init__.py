"""The parts of the HTML page: what it says, its charts and their data, its scripts."""
