"""From graph to loop: a group of nodes becomes one expr program, and a program one loop function."""
