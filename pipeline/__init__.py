"""The core and the application: records, manifests, workspaces, engines, and the command line on top."""
