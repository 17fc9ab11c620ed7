"""All SQL: runs and candidates that people review, what they decide, who they are, and the chain over what they decided."""
