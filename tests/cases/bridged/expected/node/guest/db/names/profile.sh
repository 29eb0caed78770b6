= overlays/common/names/profile.sh
