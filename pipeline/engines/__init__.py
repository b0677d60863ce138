"""Ways to run a stage; each file holds one function of the type Engine."""
