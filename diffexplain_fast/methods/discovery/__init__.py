"""Discovery: a randomised trial through the prompt, and what it says of every class of a classifier."""
