"""What is shown to the model: pictures, prompts, latents and masks, and when each comes."""
