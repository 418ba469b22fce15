# What the machine shall be.
{
  target =
    { pkgs, ... }:
    {
      services.openssh.enable = true;
      environment.systemPackages = [ pkgs.hello ];
      environment.etc."motd".text = "Welcome.\n";

      systemd.services.greeter = {
        description = "Greets once a minute";
        wantedBy = [ "multi-user.target" ];
        script = ''
          while true; do
            echo "Hello, world!"
            sleep 60
          done
        '';
      };

      systemd.services.clock = {
        description = "Tells the time once a minute";
        wantedBy = [ "multi-user.target" ];
        script = ''
          while true; do
            date
            sleep 60
          done
        '';
      };
    };
}
