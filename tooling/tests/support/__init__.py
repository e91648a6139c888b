"""What several tests share: repositories, servers and stand-ins of this machine."""
