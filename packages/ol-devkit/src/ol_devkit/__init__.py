"""For development and tests only: a simulated campus, generated courses, launchers of real servers, `ol dev` and `ol demo`."""
