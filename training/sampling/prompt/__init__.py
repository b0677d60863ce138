"""The prompt language of AUTOMATIC1111's WebUI: networks, composition, prompt editing, emphasis, chunks and styles."""
