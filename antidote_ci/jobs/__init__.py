"""Run a command as a Job of the Hub: docs/hf-jobs.md."""
