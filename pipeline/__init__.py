"""The house: records, manifests, workspaces, engines and the command line."""
