"""The campaign's model: what every run says of settings that were not run, and which to run next."""
