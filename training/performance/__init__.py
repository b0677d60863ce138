"""Performance: execution modes, CUDA graphs, memory estimates and prefetching."""
