"""Run the commands of 'cpuidlab', one module each."""
