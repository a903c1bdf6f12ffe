"""Moving bytes: which way a file travels, and when."""
