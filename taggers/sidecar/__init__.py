"""What people and other tools wrote beside the pictures already."""
