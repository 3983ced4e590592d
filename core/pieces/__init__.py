"""What any piece is: options, needs and gives, the mini-language."""
