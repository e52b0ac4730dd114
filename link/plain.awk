# The names of functions, each after what of it stays the same from one compiler and one checkout to the next: of a legacy name
# all but its hash, of a v0 name all but what tells crates of one name apart (doc.rust-lang.org/rustc/symbol-mangling).
{
    plain = $1
    sub(/\.llvm\.[0-9]+$/, "", plain)
    sub(/17h[0-9a-f]*E.*$/, "", plain)
    if (plain ~ /^_R/) gsub(/Cs[0-9A-Za-z]+_/, "Cs_", plain)
    print plain, $1
}
