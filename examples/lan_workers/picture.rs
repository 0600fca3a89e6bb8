//! The picture: the seahorse valley of the Mandelbrot set, in tiles of some rows each. Smooth colouring follows the
//! renormalised iteration count (Linas Vepstas, "Renormalizing the Mandelbrot Escape", 1997).

use std::f64::consts::TAU;

/// Pixels.
pub(crate) const WIDTH: usize = 640;
pub(crate) const HEIGHT: usize = 360;
/// How many jobs the picture makes.
pub(crate) const TILES: usize = 60;
/// Three bytes a pixel: red, green, blue.
pub(crate) const TILE_BYTES: usize = ROWS * WIDTH * 3;

const ROWS: usize = HEIGHT / TILES;
const CENTRE: (f64, f64) = (-0.747, 0.1);
/// What the picture's width shows of the plane.
const SPAN: f64 = 0.02;
/// After so many steps a point counts as one of the set.
const STEPS: u32 = 1000;

/// The pixels of a tile, row by row.
pub(crate) fn draw(tile: usize) -> Vec<u8> {
    let rows = tile * ROWS..(tile + 1) * ROWS;
    rows.flat_map(|row| (0..WIDTH).flat_map(move |column| colour(column, row))).collect()
}

fn colour(column: usize, row: usize) -> [u8; 3] {
    let scale = SPAN / WIDTH as f64;
    let real = CENTRE.0 + (column as f64 - WIDTH as f64 / 2.0) * scale;
    let imaginary = CENTRE.1 - (row as f64 - HEIGHT as f64 / 2.0) * scale;
    let Some(steps) = escape(real, imaginary) else { return [0, 0, 0] };
    // Around the colour wheel, ever more slowly.
    let angle = steps.ln() * 1.4;
    [0.0, 0.12, 0.25].map(|shift| (127.5 + 127.5 * (angle + shift * TAU).cos()) as u8)
}

/// After how many steps, with a fraction, the point is known to lie outside the set.
fn escape(real: f64, imaginary: f64) -> Option<f64> {
    // Far out the fraction has settled.
    const FAR: f64 = 256.0;
    let (mut x, mut y) = (0.0, 0.0);
    for step in 1..=STEPS {
        (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
        let distance = x * x + y * y;
        if distance > FAR * FAR {
            return Some(f64::from(step) + 1.0 - (distance.ln() / 2.0).log2());
        }
    }
    None
}
