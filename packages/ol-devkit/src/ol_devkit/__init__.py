"""For development and tests only: a simulated campus, generated courses, `ol dev` and `ol demo`."""
