"""Own pictures: segments of other pictures pasted into them, and what their concepts explain."""
