"""Running machines and processes: one task owns one machine, one signal handler owns one process."""
