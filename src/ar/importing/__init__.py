"""Other tools' records of what they tried, made into attempts that nobody measured here."""
