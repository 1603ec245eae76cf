"""What a service is: three functions over a job, and the loop that feeds them."""
