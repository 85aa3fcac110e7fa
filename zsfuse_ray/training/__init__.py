"""Training and fine-tuning of specialists and ALMs on Ray Train."""
