"""From answers to text: pure, so that every width and format can be tested without a terminal."""
