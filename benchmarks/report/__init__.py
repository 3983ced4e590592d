"""What is said of it: tables, report, user study, verification."""
