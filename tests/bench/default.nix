# The same files as a user of Nix writes them: `linked`, a derivation for each artifact, and links
# to these for each guest and each host; `whole`, one derivation a host that copies all of it.
let
  hosts = builtins.attrNames (builtins.readDir ./artifacts);
  programs = builtins.fromJSON (builtins.readFile ./programs.json);

  make = name: script: inputs: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/usr/bin:/bin";
  } // inputs);

  artifact = source: make (baseNameOf source) "cp -R $src $out" { src = source; };
  links = name: parts: make name
    "set -- $paths; mkdir $out; for n in $names; do ln -s $1 $out/$n; shift; done"
    { names = builtins.attrNames parts; paths = builtins.attrValues parts; };

  each = f: folder: builtins.mapAttrs (name: _: f (folder + "/${name}")) (builtins.readDir folder);
  named = builtins.mapAttrs (_: path: builtins.storePath path);

  guest = host: folder:
    let name = baseNameOf folder;
    in links name (each artifact folder // named (programs.${host}.${name} or { }));
  linked = host:
    let folder = ./artifacts + "/${host}";
    in links host (each artifact (folder + "/files") // each (guest host) (folder + "/guests"));
  whole = host: make host
    "cp -R $src $out; chmod u+w $out; ln -s $programs $out"
    {
      src = ./artifacts + "/${host}";
      programs = builtins.attrValues (named (builtins.foldl' (a: b: a // b) { }
        (builtins.attrValues programs.${host})));
    };
in {
  linked = map linked hosts;
  whole = map whole hosts;
}
