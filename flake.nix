# For users of Nix. What is released for others is built by .github/workflows/release.yml: a program that is linked to Nix's
# glibc starts on machines with Nix alone.
{
  description = "Serve local GGUF models as MCP tools, with llama.cpp";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      # After an edit of Cargo.lock: scripts/update-cargo-hash.sh
      cargoHash = "sha256-qtfqzMSChDis8HX6siHUJAlqbxdJ+La2s4A/OZQgi90=";

      # Nixpkgs has no x86_64-darwin any more.
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      eachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      # Without .cargo, whose flags are for the machine that builds.
      src = lib.fileset.toSource {
        root = ./.;
        fileset = lib.fileset.unions [
          ./Cargo.lock
          ./Cargo.toml
          ./LICENSE
          ./README.md
          ./build.rs
          ./config
          ./fuzz/src
          ./scripts/check-artifact
          ./src
          ./tests
        ];
      };

      # SOURCE_DATE_EPOCH, which Nix sets, and cross-compiling make llama.cpp leave all of these out without a word, and then it is
      # several times slower. What Rust may use, the check of the CPU at the start asks for.
      forCpu =
        platform:
        lib.optionalAttrs platform.isx86_64 (
          {
            RUSTFLAGS = "-C target-cpu=x86-64-v3";
          }
          // lib.genAttrs (map (name: "GGML_${name}") (lib.splitString " " "SSE42 AVX AVX2 BMI2 F16C FMA")) (_: "ON")
        );

      server =
        pkgs: arguments:
        pkgs.rustPlatform.buildRustPackage (
          {
            pname = "llama-mcp-server";
            version = (lib.importTOML ./Cargo.toml).package.version;
            inherit src cargoHash;
            nativeBuildInputs = [
              pkgs.buildPackages.cmake
              pkgs.rustPlatform.bindgenHook
            ];
            dontUseCmakeConfigure = true;
            env = forCpu pkgs.stdenv.hostPlatform;
            # The integration tests want real models, which scripts/test gets.
            cargoTestFlags = [ "--lib" ];
            doInstallCheck = true;
            installCheckPhase = "sh scripts/check-artifact $out/bin $version";
            meta = {
              description = "Serve local GGUF models as MCP tools, with llama.cpp";
              license = lib.licenses.mit;
              mainProgram = "llama-mcp-server";
              platforms = systems;
            };
          }
          // arguments
        );

      default =
        pkgs:
        server pkgs {
          buildFeatures = lib.optional pkgs.stdenv.hostPlatform.isDarwin "metal";
        };

      # Linked statically, and without OpenMP.
      musl =
        pkgs:
        server pkgs.pkgsStatic {
          pname = "llama-mcp-server-musl";
          buildNoDefaultFeatures = true;
          env = forCpu pkgs.stdenv.hostPlatform // {
            RUSTFLAGS = "-C target-cpu=x86-64-v3 -C target-feature=+crt-static";
          };
          doCheck = false;
        };

      cuda =
        system:
        let
          # CUDA is not free, which is allowed here alone.
          pkgs = import nixpkgs {
            inherit system;
            config.allowUnfree = true;
          };
          inherit (pkgs) cudaPackages;
          parts = [
            cudaPackages.cuda_cudart
            cudaPackages.libcublas
          ];
          # In one folder, as llama-cpp-sys-2's build script looks for them.
          libraries = pkgs.symlinkJoin {
            name = "cuda-libraries";
            paths = lib.concatMap (part: map (output: lib.getOutput output part) (lib.splitString " " "lib static stubs")) parts;
            postBuild = "ln -s lib $out/lib64";
          };
        in
        server pkgs {
          pname = "llama-mcp-server-cuda";
          buildFeatures = [ "cuda" ];
          nativeBuildInputs = [
            pkgs.cmake
            pkgs.rustPlatform.bindgenHook
            pkgs.autoAddDriverRunpath
            cudaPackages.cuda_nvcc
          ];
          buildInputs = parts ++ [ cudaPackages.cuda_cccl ];
          env = forCpu pkgs.stdenv.hostPlatform // {
            CMAKE_CUDA_ARCHITECTURES = cudaPackages.flags.cmakeCudaArchitecturesString;
            CUDA_LIBRARY_PATH = libraries;
          };
          # Without a driver the program does not start.
          doCheck = false;
          doInstallCheck = false;
        };
    in
    {
      packages = eachSystem (
        pkgs:
        {
          default = default pkgs;
        }
        // lib.optionalAttrs (pkgs.stdenv.hostPlatform.system == "x86_64-linux") {
          musl = musl pkgs;
          cuda = cuda "x86_64-linux";
        }
      );

      devShells = eachSystem (pkgs: {
        # cargo, rustc, cmake, libclang from the package; a C++ compiler comes with the shell.
        default = pkgs.mkShell {
          inputsFrom = [ (default pkgs) ];
          packages = [
            pkgs.cargo-deny
            pkgs.clippy
            pkgs.nodejs
            pkgs.python3
            pkgs.rust-analyzer
            pkgs.rustfmt
            pkgs.shellcheck
          ];
        };
      });

      checks = eachSystem (pkgs: {
        # With its unit tests, and a call.
        package = default pkgs;
        fmt =
          pkgs.runCommand "llama-mcp-server-fmt"
            {
              nativeBuildInputs = [
                pkgs.cargo
                pkgs.rustfmt
              ];
            }
            ''
              cd ${src}
              cargo fmt --check
              touch $out
            '';
        clippy = (default pkgs).overrideAttrs (package: {
          pname = "llama-mcp-server-clippy";
          nativeBuildInputs = package.nativeBuildInputs ++ [ pkgs.clippy ];
          # The integration tests are for Linux.
          buildPhase = "cargo clippy --release --locked --offline ${lib.optionalString pkgs.stdenv.hostPlatform.isLinux "--all-targets"} -- -D warnings";
          doCheck = false;
          doInstallCheck = false;
          installPhase = "touch $out";
        });
      });
    };
}
