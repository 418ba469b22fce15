# What the machine shall be.
{
  target =
    { pkgs, ... }:
    {
      services.openssh.enable = true;
      environment.systemPackages = [ pkgs.hello ];
    };
}
