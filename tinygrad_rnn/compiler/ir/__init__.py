"""What a step is: values computed from each other, how these are typed and printed, which depend on their past."""
