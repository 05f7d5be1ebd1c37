"""Work on photos, one worker or many."""
