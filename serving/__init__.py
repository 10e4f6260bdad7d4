"""The service: a REST API, durable jobs, one worker process per device, and the command line."""
