"""What the screen and the report look like: `python -m tests.pictures` makes both anew."""
