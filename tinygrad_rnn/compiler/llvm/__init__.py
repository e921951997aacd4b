"""The backend "llvm": the moving part of a schedule as machine code, on the cores of one processor."""
