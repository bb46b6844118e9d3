"""Processes: the fork server, a supervisor for each job, the job, and what their ends mean."""
