"""What ``import facetools`` offers: functions of photos and folders, over what the commands use."""
