"""The paper's own scores: what a segmenter finds in explained pictures, and what removing it does to the answer."""
