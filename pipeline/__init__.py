"""Records, manifests, workspaces and stages; engines that run them; and the commands and their command line."""
