"""What ``tests/test_tidy.py`` holds the source against: the rules as tables, and a reader of the source."""
