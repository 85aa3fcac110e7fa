"""Fine-tuning and training of both kinds of models on Ray Train."""
