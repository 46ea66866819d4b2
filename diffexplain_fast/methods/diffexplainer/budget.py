"""Names of the work that a search leaves out when it may spend nothing more; see ``Cost.leaves_out``."""

WORDS, SECOND_LOOKS, SECOND_WORDS = "words", "second looks", "second words"
SEARCHING, NAMING, STEPS, MODES = "search", "naming", "steps", "further explanations"
