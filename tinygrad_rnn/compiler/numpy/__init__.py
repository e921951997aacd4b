"""The backend "numpy": a schedule as two straight Python functions of NumPy calls."""
