"""What is measured: suite, data, entries, controls, plan."""
