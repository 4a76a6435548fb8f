"""What the project declares: its programme, pipeline, parameters and scope."""
