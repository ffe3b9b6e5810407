"""What `import persyn_ray` offers to Python, loaded when it is first used."""
