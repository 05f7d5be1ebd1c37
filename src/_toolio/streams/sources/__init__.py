"""Where inputs lie: folders, archives, lists, URLs; a module each."""
